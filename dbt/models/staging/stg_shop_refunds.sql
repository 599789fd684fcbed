{{ staged('shop_refunds') }}
