"""Networks, the bundle format that carries their weights, and the zoo of known bundles."""
