select {{ toolbox.star(ref('visits'), except=['N']) }},
  {{ toolbox.surrogate_key(['id', 'channel']) }} as key,
  '{{ toolbox.greeting() }}' as hello,
  '{{ toolbox.farewell() }}' as bye
from {{ ref('visits') }}
