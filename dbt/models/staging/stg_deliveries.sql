{{ staged('deliveries') }}
