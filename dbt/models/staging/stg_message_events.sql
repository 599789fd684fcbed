{{ staged('message_events') }}
