"""What two or more studies use, or what would make one study too long: the scaffold, tables, sets of models, protocols.

The command line and `python studies/NN_name.py` put the folder `studies` on the import path, hence `from shared import ...`.
"""
