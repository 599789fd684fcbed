{{ staged('stores') }}
