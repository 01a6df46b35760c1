"""Records to matplotlib figures: pictures only, the numbers come in finished.

Every function returns a `matplotlib.figure.Figure`; save it with `figure.savefig(path)`. Needs
`pip install "energax[report]"`.
"""

from energax.plots._annealing_path import annealing_path as annealing_path
from energax.plots._annealing_weights import annealing_weights as annealing_weights
from energax.plots._density_under_chains import density_under_chains as density_under_chains
from energax.plots._energy_histograms import energy_histograms as energy_histograms
from energax.plots._filters import filters as filters
from energax.plots._image_shape import guess_image_shape as guess_image_shape
from energax.plots._ladder import ladder as ladder
from energax.plots._learning_curves import learning_curves as learning_curves
from energax.plots._numbers import format_number as format_number
from energax.plots._row_sheet import row_sheet as row_sheet
from energax.plots._sample_sheet import sample_sheet as sample_sheet
from energax.plots._trace import trace as trace
