"""What training minimises: one file an objective."""

from energax.objectives._base import AbstractObjective as AbstractObjective
from energax.objectives._base import Step as Step
from energax.objectives._base import contrast as contrast
from energax.objectives._base import value_and_gradient as value_and_gradient
from energax.objectives._combined import CombinedObjective as CombinedObjective
from energax.objectives._composite_likelihood import CompositeLikelihood as CompositeLikelihood
from energax.objectives._conditional_likelihood import (
    ConditionalLikelihood as ConditionalLikelihood,
)
from energax.objectives._contrastive_divergence import (
    ContrastiveDivergence as ContrastiveDivergence,
)
from energax.objectives._denoising_score_matching import (
    DenoisingScoreMatching as DenoisingScoreMatching,
)
from energax.objectives._energy_discrepancy import EnergyDiscrepancy as EnergyDiscrepancy
from energax.objectives._joint_classifier import JointClassifier as JointClassifier
from energax.objectives._maximum_entropy import MaximumEntropy as MaximumEntropy
from energax.objectives._maximum_likelihood import MaximumLikelihood as MaximumLikelihood
from energax.objectives._minimum_probability_flow import (
    MinimumProbabilityFlow as MinimumProbabilityFlow,
)
from energax.objectives._monte_carlo import (
    MonteCarloMaximumLikelihood as MonteCarloMaximumLikelihood,
)
from energax.objectives._noise_contrastive_estimation import (
    NoiseContrastiveEstimation as NoiseContrastiveEstimation,
)
from energax.objectives._persistent import (
    PersistentContrastiveDivergence as PersistentContrastiveDivergence,
)
from energax.objectives._pseudo_likelihood import PseudoLikelihood as PseudoLikelihood
from energax.objectives._ratio_matching import RatioMatching as RatioMatching
from energax.objectives._replay_buffer import ReplayBuffer as ReplayBuffer
from energax.objectives._score_matching import ScoreMatching as ScoreMatching
from energax.objectives._site_changes import site_changes as site_changes
from energax.objectives._sliced_score_matching import SlicedScoreMatching as SlicedScoreMatching
from energax.objectives._tempered import (
    TemperedContrastiveDivergence as TemperedContrastiveDivergence,
)
from energax.objectives._unbiased import (
    UnbiasedContrastiveDivergence as UnbiasedContrastiveDivergence,
)
