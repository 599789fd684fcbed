{{ staged('shop_customers') }}
