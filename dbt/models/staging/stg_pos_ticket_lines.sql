{{ staged('pos_ticket_lines', header=ref('stg_pos_tickets')) }}
