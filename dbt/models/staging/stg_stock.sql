{{ staged('stock') }}
