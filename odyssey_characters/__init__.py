"""Characters: EMNIST, scikit-learn's digits, glyphs drawn from fonts, and how handwriting in a photograph is read.

A package like anybody's: the core and the runner know images and classes, and find these by their registered names.
"""
