"""What somebody has to agree to, who answers with `hotpath resume`."""


def main(cents: int, limit_eur: float) -> str:
    question = f"The orders come to {cents / 100:,.2f} EUR, more than {limit_eur:,.0f}: publish?"
    print(question)  # in real life: a mail to whoever may say so, with `hotpath.resume_token()` in it
    return question
