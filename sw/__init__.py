"""Models, data and training in floating point, and the predictors of lazy layers."""
