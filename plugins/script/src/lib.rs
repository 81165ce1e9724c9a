//! Runs a script in an image, as a step of a flow.
