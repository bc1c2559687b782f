{# A strategy of the project's own: only who moved to another city is a new version. #}
{% macro snapshot_moved_strategy(node, snapshotted_rel, current_rel, model_config, target_exists) %}
  {% set key, updated_at = model_config['unique_key'], snapshot_get_time() %}
  {% do return({
    'unique_key': key,
    'updated_at': updated_at,
    'row_changed': snapshotted_rel ~ '.city != ' ~ current_rel ~ '.city',
    'scd_id': snapshot_hash_arguments([key, updated_at]),
    'invalidate_hard_deletes': false,
    'hard_deletes': 'ignore'
  }) %}
{% endmacro %}
