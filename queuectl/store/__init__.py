"""Where jobs are stored: the contract, and the stores that fulfil it."""
