"""Change captioners: MModalCC, RSICCformer, Chg2Cap."""
