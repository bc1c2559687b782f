{{ none.x.y }}
