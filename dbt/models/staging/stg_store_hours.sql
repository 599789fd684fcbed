{{ staged('store_hours') }}
