"""How French names, streets and e-mail domains are written, shortened and mistyped: the word lists of the noise.

How often each happens is said in ``dirt``; where in a record, in ``handwriting``. Only words here, no person.
"""

from html.entities import codepoint2name

DIMINUTIVES = {
    "Catherine": "Cathy", "Christine": "Cri-Cri", "Nathalie": "Nath", "Isabelle": "Isa", "Véronique": "Véro",
    "Valérie": "Val", "Sandrine": "Sandy", "Stéphanie": "Steph", "Frédéric": "Fred", "Frédérique": "Fred",
    "Philippe": "Phil", "Christophe": "Chris", "Christian": "Chris", "Christelle": "Chris", "Nicolas": "Nico",
    "Alexandre": "Alex", "Alexandra": "Alex", "Alexis": "Alex", "Maxime": "Max", "Maximilien": "Max",
    "Thomas": "Tom", "Benjamin": "Ben", "Benoît": "Ben", "Élisabeth": "Babeth", "Jacqueline": "Jackie",
    "Jacques": "Jacky", "Dominique": "Dom", "Emmanuelle": "Manu", "Emmanuel": "Manu", "Manuel": "Manu",
    "Jean-Pierre": "Jipé", "Marie-Claude": "Marie", "Caroline": "Caro", "Florence": "Flo", "Florian": "Flo",
    "Charlotte": "Charlie", "Mathilde": "Mat", "Mathieu": "Mat", "Matthieu": "Matt", "Guillaume": "Guigui",
    "Sébastien": "Seb", "Grégory": "Greg", "Laurent": "Lolo", "Laurence": "Lolo", "Olivier": "Olive",
    "Patrick": "Pat", "Patricia": "Pat", "Michel": "Mich", "Michèle": "Mimi", "Monique": "Momo", "Gérard": "Gégé",
    "Daniel": "Dany", "Danielle": "Dany", "Joseph": "Jo", "Josette": "Jo", "Georges": "Jojo", "Suzanne": "Suzy",
    "Antoine": "Tony", "Anthony": "Tony", "Antony": "Tony", "Vincent": "Vince", "Samuel": "Sam", "Samantha": "Sam",
    "Gabriel": "Gab", "Gabrielle": "Gaby", "Delphine": "Del", "Virginie": "Virg", "Marguerite": "Margot",
    "Madeleine": "Mado", "Marie-Thérèse": "Maïté", "Geneviève": "Ginette", "Bernadette": "Dédette",
    "Bernard": "Nanard", "André": "Dédé", "Robert": "Bob", "Richard": "Rick", "Raphaël": "Raph", "Mickaël": "Mika",
    "Michaël": "Mike", "Jonathan": "Jon", "Jérémy": "Jerem", "Jérôme": "Jé", "Ludovic": "Ludo", "Édouard": "Doudou",
    "Victor": "Vic", "Victoria": "Vicky", "Théophile": "Théo", "Léonard": "Léo", "Augustin": "Gus",
    "Angélique": "Angie",
    "Camille": "Cam", "Mélanie": "Mél", "Mélissa": "Mel", "Amélie": "Amé", "Aurélie": "Auré", "Audrey": "Dree",
    "Jessica": "Jess", "Justine": "Juju", "Juliette": "Ju", "Julien": "Ju", "Joséphine": "José", "Pascale": "Pasca",
    "Bérengère": "Béré", "Agathe": "Aga", "Clémentine": "Clem", "Clément": "Clem", "Clémence": "Clem",
    "Noémie": "Nono", "Océane": "Océ", "Romain": "Rom", "Corentin": "Coco", "Valentin": "Val", "Valentine": "Val",
}  # fmt: skip
"""What people with a long given name call themselves."""

CLOSE_NAMES = (
    (("Julien", "m"), ("Julie", "f")), (("Louis", "m"), ("Louise", "f")), (("Martin", "m"), ("Marin", "m")),
    (("Émile", "m"), ("Émilie", "f")), (("Lucie", "f"), ("Lucien", "m")), (("Léo", "m"), ("Léa", "f")),
    (("Fabien", "m"), ("Fabienne", "f")), (("Laura", "f"), ("Laure", "f")), (("Clémence", "f"), ("Clément", "m")),
    (("Théo", "m"), ("Léo", "m")), (("Marine", "f"), ("Marin", "m")), (("Aurélie", "f"), ("Aurélien", "m")),
    (("Lina", "f"), ("Lisa", "f")), (("Noé", "m"), ("Noa", "m")), (("Marie", "f"), ("Marine", "f")),
    (("Justin", "m"), ("Justine", "f")), (("Chloé", "f"), ("Zoé", "f")), (("Anna", "f"), ("Hanna", "f")),
)  # fmt: skip
"""Given names of twins that are a letter or two apart, with the sex of each."""

MAIL_DOMAINS = (
    (0.34, "gmail.com"), (0.46, "orange.fr"), (0.56, "hotmail.fr"), (0.65, "free.fr"), (0.72, "yahoo.fr"),
    (0.78, "wanadoo.fr"), (0.84, "outlook.fr"), (0.89, "laposte.net"), (0.93, "sfr.fr"), (0.96, "icloud.com"),
    (0.98, "live.fr"), (1.01, "poste.example"),
)  # fmt: skip
"""Mail domains by cumulated share."""

WRONG_DOMAINS = {
    "gmail.com": ("gmial.com", "gmail.fr", "gmail.co", "gamil.com", "gmail.con", "gmaill.com", "gmailcom", "gmai.com"),
    "orange.fr": ("ornage.fr", "orange.f", "orange.com", "orage.fr", "orangefr", "orang.fr"),
    "hotmail.fr": ("hotmial.fr", "hotmail.com", "hotmai.fr", "hormail.fr", "hotmailfr"),
    "free.fr": ("freee.fr", "fre.fr", "free.com"),
    "yahoo.fr": ("yaho.fr", "yahoo.com", "yahou.fr", "yhaoo.fr"),
    "wanadoo.fr": ("wanado.fr", "wanadoo.com", "wannadoo.fr", "wanadoo.f"),
    "outlook.fr": ("outlok.fr", "outloock.fr", "outlook.com"),
    "laposte.net": ("laposte.fr", "lapost.net", "la-poste.net", "laposte.com"),
    "sfr.fr": ("srf.fr", "sfr.com"),
    "icloud.com": ("icloud.fr", "iclou.com", "icoud.com"),
    "live.fr": ("live.com", "lives.fr"),
    "poste.example": ("post.example", "posteexample"),
}
"""How each mail domain is got wrong."""

# One row of the French keyboard after the other: what lies beside a key.
_KEYS = "azertyuiop", "qsdfghjklm", "wxcvbn", "1234567890"
KEYS = "".join(row[:-1] for row in _KEYS) + "".join(row[-1] for row in _KEYS)
BESIDE = "".join(row[1:] for row in _KEYS) + "".join(row[-2] for row in _KEYS)
"""``BESIDE[n]`` lies beside the key ``KEYS[n]``."""

ACCENTED = "éèêëàâçîïôöûüùÉÈÊÇÎÔ"
MOJIBAKE = {letter: letter.encode().decode("cp1252", "replace") for letter in ACCENTED if letter not in "à"} | {
    "à": "Ã "
}
"""Accented letters in UTF-8, read as if they were Windows-1252."""
ENTITIES = {letter: f"&{codepoint2name[ord(letter)]};" for letter in ACCENTED}

STREET_WORDS = {
    "avenue": ("av", "av.", "ave"), "boulevard": ("bd", "bld", "bvd"), "rue": ("r.", "r", "Rue"),
    "place": ("pl", "pl.", "Place"), "chemin": ("chem.", "che", "ch."), "impasse": ("imp", "imp.", "Imp"),
    "allée": ("all.", "all", "allee"), "route": ("rte", "rte.", "Rte"), "cours": ("crs", "Crs", "cour"),
    "quai": ("q.", "Quai", "quai"),
}  # fmt: skip
"""How the first word of a street is shortened."""
TITLE_WORDS = (
    ("Saint-", "St "), ("Sainte-", "Ste "), ("Saint ", "St "), ("Sainte ", "Ste "), ("Général ", "Gal "),
    ("Maréchal ", "Mal "), ("Docteur ", "Dr "), ("Président ", "Pdt "), ("Professeur ", "Pr "), ("Faubourg ", "Fg "),
)  # fmt: skip
"""Words within a street or a town, and how they are shortened."""

COMPLEMENTS = (
    "Apt {}", "Appt {}", "Bât B", "Bat. C", "Résidence Les Lilas", "Rés. du Parc", "Esc. A", "{}e étage", "Porte {}",
    "Résidence Beausoleil", "Bâtiment A", "Lot {}", "Hall 2", "Les Terrasses",
)  # fmt: skip
"""What stands before or behind the street of a flat; ``{}`` is its number."""
HOSTS = ("Mme Durand", "M. Petit", "Mme Leroy", "M. et Mme Morel", "Mlle Simon", "Mme Veuve Roux", "M. Garnier")
"""With whom somebody lodges."""
