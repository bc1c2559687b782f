{% macro a() %} x
