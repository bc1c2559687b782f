{{ broken() }}
