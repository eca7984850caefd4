//! Every contract of the registry, whichever there are: that it is a good one, and that the API holds callers to it.

mod neighbours;
mod quality;
mod refused;
