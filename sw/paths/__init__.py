"""Critical paths: which filters a class needs, and what a network is without the others.

`watch` sees and changes activations of any network with convolutions and linear layers, `scores` ranks its filters for
every class, `routing` ranks them by gates fitted to single images, `path` turns scores into masks, `cut` evaluates and
saves what a path leaves, and `admm` distils a path for one class against the rest.
"""
