{{ typed('x', 2) }}
