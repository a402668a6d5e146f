"""Selection: which documents a training run reads, to a budget of tokens.

Comes in: measured documents, and clusters by meaning where there are some. Goes out: the documents chosen and
those not, each with the numbers that decided it. A document's weight is quality x diversity x frequency; its
probability is min(1, scale x weight), and it is chosen when its draw, a number that depends on its id and the
seed alone, is below that.
"""
