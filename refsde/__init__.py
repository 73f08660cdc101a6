__version__ = "0.1.0"
from refsde.sde import EDM, VE, VP, Cosine, SubVP, Tabulated
from refsde.targets import GaussianMixture
