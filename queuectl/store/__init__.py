"""Where jobs lie: the contract and the stores that keep it."""
