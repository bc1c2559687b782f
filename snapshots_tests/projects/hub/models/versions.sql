select {{ tools.tools_version() }} as tools, {{ base.base_version() }} as base, {{ plain.plain_version() }} as plain
