"""Jinja macros that translated templates need: Go's ways to write what Python writes otherwise."""

from collections.abc import Mapping

_JSON = r"""{%- macro go_json(value) -%}
{{- value | tojson(separators=(',', ':')) | replace('<', '\\u003c') | replace('>', '\\u003e')
| replace('&', '\\u0026') -}}
{%- endmacro -%}
"""

_TEXT = """{%- macro go_text(value) -%}
{%- if value is string -%}{{- value -}}
{%- elif value is boolean -%}{{- 'true' if value else 'false' -}}
{%- elif value is none -%}{{- '<nil>' -}}
{%- elif value is mapping -%}
{{- 'map[' -}}
{%- for key, item in value | dictsort(true) -%}
{{- ' ' if not loop.first -}}{{- key ~ ':' ~ go_text(item) -}}
{%- endfor -%}
{{- ']' -}}
{%- elif value is sequence -%}
{{- '[' -}}{%- for item in value -%}{{- ' ' if not loop.first -}}{{- go_text(item) -}}{%- endfor -%}{{- ']' -}}
{%- else -%}{{- value -}}
{%- endif -%}
{%- endmacro -%}
"""

_TYPE = """{%- macro go_type(value) -%}
{{- value if value is string or not value else (value[0] if value | length == 1 else '[' ~ value | join(' ') ~ ']') -}}
{%- endmacro -%}
"""

_TYPESCRIPT = """{%- macro typescript_type(property) -%}
{%- for part in property.anyOf or [] -%}
{{- ' | ' if not loop.first -}}{{- typescript_type(part) -}}
{%- else -%}
{%- for name in ([property.type] if property.type is string else property.type or ['']) -%}
{{- ' | ' if not loop.first -}}
{{- {'string': 'string', 'number': 'number', 'integer': 'number', 'boolean': 'boolean', 'array': 'any[]',
'object': 'Record<string, any>', 'null': 'null'}.get(name, 'any') -}}
{%- endfor -%}
{%- endfor -%}
{%- endmacro -%}
"""

MACROS: Mapping[str, str] = {"go_json": _JSON, "go_text": _TEXT, "go_type": _TYPE, "typescript_type": _TYPESCRIPT}

TURNS = r"""{%- set go = namespace(turns=[]) -%}
{%- for message in messages -%}
{%- if go.turns and go.turns[-1].role == message.role and message.role != 'tool' -%}
{%- set merged = dict(go.turns[-1], content=go.turns[-1].content ~ '\n\n' ~ message.content) -%}
{%- set go.turns = go.turns[:-1] + [merged] -%}
{%- else -%}
{%- set go.turns = go.turns + [message] -%}
{%- endif -%}
{%- endfor -%}
"""
"""Messages in a row by one role are one, as in Ollama, but for those of tools."""

SYSTEM = r"""{%- set system = messages | selectattr('role', 'equalto', 'system') | map(attribute='content')
| join('\n\n') -%}
"""

EXCHANGES = """{%- set now = namespace(system='', prompt='', response='') -%}
{%- for turn in go.turns -%}
{%- if (turn.role == 'system' and (now.prompt or now.response)) or (turn.role == 'user' and now.response) -%}
{{- exchange(now.system, now.prompt, now.response) -}}
{%- set now.system = '' -%}{%- set now.prompt = '' -%}{%- set now.response = '' -%}
{%- endif -%}
{%- if turn.role == 'system' -%}{%- set now.system = turn.content -%}
{%- elif turn.role == 'user' -%}{%- set now.prompt = turn.content -%}
{%- elif turn.role == 'assistant' -%}{%- set now.response = turn.content -%}
{%- endif -%}
{%- endfor -%}
"""
"""Templates without `.Messages` are written once for each exchange: a system text, a prompt and its response."""
