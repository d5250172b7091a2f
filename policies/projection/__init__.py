"""HPML: projection of the joint update field onto metric gradients."""
