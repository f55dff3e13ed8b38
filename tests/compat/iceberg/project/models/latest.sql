{{ config(materialized='incremental', incremental_strategy='merge', unique_key='id') }}
select id, name, age + {{ var('years', 0) }} as age from {{ ref('people') }}
