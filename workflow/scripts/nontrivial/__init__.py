"""Library shared by the workflow's programs: which layers does a trained network need?"""
