"""State the benchmarked posteriors in Stan's language.

Each entry: the program, the names of integer data, and a function from the data to further sizes.
"""

from __future__ import annotations

EIGHT_SCHOOLS = """
data { int n; vector[n] y; vector<lower=0>[n] sigma; }
parameters { real mu; real<lower=0> tau; vector[n] theta; }
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5);
  theta ~ std_normal();
  y ~ normal(mu + tau * theta, sigma);
}
"""

RADON = """
data { int n; int counties; array[n] int county; vector[n] floor; vector[n] y; }
parameters {
  real mu_a; real mu_b; real<lower=0> sigma_a; real<lower=0> sigma_b; real<lower=0> sigma_y;
  vector[counties] a; vector[counties] b;
}
model {
  mu_a ~ normal(0, 10); mu_b ~ normal(0, 10);
  sigma_a ~ std_normal(); sigma_b ~ std_normal(); sigma_y ~ std_normal();
  a ~ std_normal(); b ~ std_normal();
  y ~ normal((mu_a + sigma_a * a)[county] + (mu_b + sigma_b * b)[county] .* floor, sigma_y);
}
"""

LOGISTIC = """
data { int n; int k; matrix[n, k] x; array[n] int y; }
parameters { vector[k] beta; }
model { beta ~ std_normal(); y ~ bernoulli_logit_glm(x, 0, beta); }
"""

IRT = """
data { int items; int persons; array[items, persons] int y; }
parameters { vector[persons] ability; vector[items] difficulty; vector<lower=0>[items] discrimination; }
model {
  ability ~ std_normal(); difficulty ~ normal(0, 2); discrimination ~ lognormal(0, 0.5);
  for (i in 1:items) y[i] ~ bernoulli_logit(discrimination[i] * (ability - difficulty[i]));
}
"""

STOCHASTIC_VOLATILITY = """
data { int n; vector[n] y; }
parameters { real mu; real<lower=-1, upper=1> phi; real<lower=0> sigma; vector[n] noise; }
model {
  vector[n] h = noise * sigma;
  h[1] = mu + h[1] / sqrt(1 - square(phi));
  for (t in 2:n) h[t] += mu + phi * (h[t - 1] - mu);
  mu ~ normal(0, 5); sigma ~ cauchy(0, 2); noise ~ std_normal();
  y ~ normal(0, exp(h / 2));
}
"""

GAUSSIAN_PROCESS = """
data { int n; array[n] real x; vector[n] y; }
parameters { real<lower=0> rho; real<lower=0> alpha; real<lower=0> sigma; }
model {
  matrix[n, n] covariance = add_diag(gp_exp_quad_cov(x, alpha, rho), square(sigma) + 1e-8);
  rho ~ inv_gamma(5, 5); alpha ~ std_normal(); sigma ~ std_normal();
  y ~ multi_normal_cholesky(rep_vector(0, n), cholesky_decompose(covariance));
}
"""


def _length(data):
    return {"n": len(data["y"])}


MODELS = {
    "eight_schools": (EIGHT_SCHOOLS, (), _length),
    "radon": (
        RADON,
        ("county", "counties"),
        lambda data: {"n": len(data["y"]), "counties": int(data["counties"])},
    ),
    "logistic_10k": (LOGISTIC, ("y",), lambda data: {"n": len(data["y"]), "k": data["x"].shape[1]}),
    "logistic_100k": (LOGISTIC, ("y",), lambda data: {"n": len(data["y"]), "k": data["x"].shape[1]}),
    "irt": (IRT, ("y",), lambda data: {"items": len(data["y"]), "persons": data["y"].shape[1]}),
    "stochastic_volatility": (STOCHASTIC_VOLATILITY, (), _length),
    "gaussian_process": (GAUSSIAN_PROCESS, (), _length),
}
