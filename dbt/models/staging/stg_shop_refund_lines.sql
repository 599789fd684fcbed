{{ staged('shop_refund_lines', header=ref('stg_shop_refunds')) }}
