"""The smallest shift that can be seen, in the user's unit: a new topic's share of traffic."""

import math

# The share is stated for a topic of which so many rows pass the 5 % tail of the confidence; new
# topics were measured at 0.5 to 0.8.
NEW_TOPIC_TAIL_RATIO = 0.6
VISIBILITY_TAIL = 0.05


def smallest_visible_share(rows: float) -> float:
    """The share of traffic below which a new topic stays unseen by the 5 % confidence tail, for a
    reference that is worth `rows` independent rows."""
    margin = 2.0 * math.sqrt(VISIBILITY_TAIL * (1.0 - VISIBILITY_TAIL) / rows)
    return min(1.0, margin / (NEW_TOPIC_TAIL_RATIO - VISIBILITY_TAIL))
