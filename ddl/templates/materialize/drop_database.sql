DROP DATABASE IF EXISTS {{ database }}{{ on_cluster }}
