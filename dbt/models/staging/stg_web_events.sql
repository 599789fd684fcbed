{{ staged('web_events') }}
