// The gate of an MLP: activation(gate) * up, in float32 from and to numbers of T. A thread makes one result.
// SILU is 1 for g * sigmoid(g); else the gate is GELU's approximation by tanh, which is g * sigmoid of what
// the tanh takes twice.
const uint i = thread_position_in_grid.x;
const float g = float(gate[i]);
const float t = SILU ? g : 1.5957691216057308f * (g + 0.044715f * g * g * g);
y[i] = T(g / (1.0f + metal::precise::exp(-t)) * float(up[i]));
