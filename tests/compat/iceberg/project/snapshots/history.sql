{% snapshot history %}
{{ config(target_schema='dbt_history', unique_key='id', strategy='check', check_cols=['name', 'age'], file_format='iceberg') }}
select id, name, age + {{ var('years', 0) }} as age from {{ ref('people') }} where id = 1 or {{ var('years', 0) }} = 0
{% endsnapshot %}
