{{ staged('shop_orders') }}
