{{ staged('loyalty_members') }}
