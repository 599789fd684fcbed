{{ staged('declared_preferences') }}
