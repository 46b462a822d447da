"""Cardiovascular risk as a stated function of heart size, calcification, age and sex."""

from __future__ import annotations

import math

from napari_cxr3d.errors import InvalidInputError

__all__ = ["cardiovascular_risk"]

_INTERCEPT = -3.48  # a woman of 60, no calcium, ratio 0.45: 3 %
_PER_YEAR = math.log(2.0) / 10.0
_MALE = math.log(1.6)
_PER_LOG_CALCIUM = 0.26
_PER_RATIO = 6.0
_HEALTHY_RATIO = 0.45


def cardiovascular_risk(
    age: float, sex: str, cardiothoracic_ratio: float, calcium_score: float
) -> float:
    """Probability of a cardiovascular event in ten years, by a logistic function.

    ``logit p = -3.48 + 0.0693 (age - 60) + 0.470 [male] + 0.26 ln(1 + calcium)
    + 6.0 (ratio - 0.45)``

    A label to learn from, not a clinical score: the terms have the direction and about the size
    that cohorts report. The odds double with every ten years of age and are 1.6 times higher in
    men. They grow by 1.3 with each unit of ln(1 + Agatston score), the hazard ratio of the
    Multi-Ethnic Study of Atherosclerosis being near that (McClelland et al., J. Am. Coll.
    Cardiol. 66:1643-1653, 2015), and by 1.8 with each 0.1 of the cardiothoracic ratio.

    Parameters
    ----------
    age : float
        Years.
    sex : {"female", "male"}
        Of the person.
    cardiothoracic_ratio : float
        Width of the heart over inner width of the chest; 0 where they were not in the field of
        view, for which a healthy 0.45 is taken.
    calcium_score : float
        Agatston score of the coronary arteries.

    Raises
    ------
    InvalidInputError
        For a sex that is neither, a negative score, or numbers that are none.
    """
    if sex not in ("female", "male"):
        raise InvalidInputError(
            "The risk knows two sexes", why=f"it was given {sex!r}", remedy="give female or male"
        )
    numbers = (age, cardiothoracic_ratio, calcium_score)
    if not (all(map(math.isfinite, numbers)) and calcium_score >= 0 and cardiothoracic_ratio >= 0):
        raise InvalidInputError(
            "The risk needs an age, a cardiothoracic ratio and a calcium score of 0 or more",
            why=f"they are {age:g}, {cardiothoracic_ratio:g} and {calcium_score:g}",
        )
    ratio = cardiothoracic_ratio or _HEALTHY_RATIO
    logit = (
        _INTERCEPT
        + _PER_YEAR * (age - 60.0)
        + (_MALE if sex == "male" else 0.0)
        + _PER_LOG_CALCIUM * math.log1p(calcium_score)
        + _PER_RATIO * (ratio - _HEALTHY_RATIO)
    )
    # Rounded, so that the last bit of a machine's exp does not show.
    return round(1.0 / (1.0 + math.exp(-logit)), 6)
