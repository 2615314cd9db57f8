"""Base learners as functions of flat weights: MLP, Conv4, any nn.Module; heads; their objectives."""
