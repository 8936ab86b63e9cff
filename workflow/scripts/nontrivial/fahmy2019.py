"""stub"""
def prepare(settings, data_dir, output): raise NotImplementedError
