{{ staged('shop_order_lines', header=ref('stg_shop_orders')) }}
