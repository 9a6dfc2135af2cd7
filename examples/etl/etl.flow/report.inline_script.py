from orders import report


def main(out: str, merged: dict, aside: dict, loaded: dict, approvers: list[str]) -> dict:
    return report(out, merged, aside, loaded, approvers)
