"""The task of Windmill's published benchmark."""


def fibo(n: int) -> int:
    """The n-th Fibonacci number, slowly."""
    return n if n <= 1 else fibo(n - 1) + fibo(n - 2)


def main(number: int, n: int = 0) -> list[int]:
    """Which of many calls it is, and the number."""
    return [n, fibo(number)]
