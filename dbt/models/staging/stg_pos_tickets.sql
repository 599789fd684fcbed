{{ staged('pos_tickets') }}
