"""The hand-written predictors that trained models are compared with.

Every predictor is a function of s_1..s_T, shape (batch, time, n_obs), that gives at each t a prediction of s_{t+1} of the same
shape and dtype, from nothing later than s_t. Their mesa-objective is L_t(Phi) = 1/2 sum_{t'<t} ||s_{t'+1} - Phi s_{t'}||^2.
"""
