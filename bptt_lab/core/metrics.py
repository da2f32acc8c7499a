"""What the name of a metric says of it."""

HIGHER_IS_BETTER = ("accuracy", "recall", "correlation", "score", "f1", "r2")


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; of a loss, an error, a perplexity it is not."""
    return any(word in metric for word in HIGHER_IS_BETTER)
