"""The sentences by which data sets say that nothing has changed; each stands here alone."""

from __future__ import annotations

_COMMON = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
)
#: The generated world's, in training.
SCENES: tuple[str, ...] = (
    "nothing has changed",
    "the two pictures show the same place without any change",
    "there is no difference between both dates",
    "the place looks just as it did before",
    "no building, road or plant is new or missing",
    "both pictures are alike",
    "everything stays the same",
    "no change can be found on the ground",
    "the area remains as it was",
)
#: And the ones that only its evaluation uses.
SCENES_HELD_OUT: tuple[str, ...] = (
    "not a thing differs from the earlier date",
    "the later picture repeats the earlier one",
    "all objects are still where they were",
    "I cannot make out any change",
    "the site is untouched",
)

#: Data set -> its sentences. DeltaVLM's `test-cls.ipynb` (6c9bd60) and SECOND-CC's evaluation loop
#: (bac59aa) test captions for membership.
NO_CHANGE: dict[str, tuple[str, ...]] = {
    "levir_cc": (*_COMMON, "no change has occurred", "almost nothing has changed"),
    "second_cc": (*_COMMON, "no change is occurred", "almost nothing is changed"),
    "scenes": (*SCENES, *SCENES_HELD_OUT),
}
