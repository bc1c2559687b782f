//! Words that people, teams and places are made up from. Nobody and nothing in here is meant: the names are put together
//! from syllables, and what comes out belongs to no driver, team or circuit that there is.

/// A nation of drivers and teams.
#[derive(Debug)]
pub(super) struct Nation {
    pub(super) nationality: &'static str,
    pub(super) given: &'static [&'static str],
    pub(super) stems: &'static [&'static str],
    pub(super) endings: &'static [&'static str],
}

pub(super) const NATIONS: &[Nation] = &[
    Nation {
        nationality: "British",
        given: &["Alfie", "Basil", "Callum", "Dudley", "Edmund", "Giles", "Harvey", "Neville", "Rupert", "Toby"],
        stems: &["Ash", "Brack", "Cold", "Dun", "Elm", "Farn", "Hather", "Kettle", "Marl", "Thorn", "Wend"],
        endings: &["combe", "ington", "lough", "mere", "stoke", "thwaite", "wick", "worthy"],
    },
    Nation {
        nationality: "Italian",
        given: &["Aldo", "Bruno", "Corrado", "Dario", "Ennio", "Fausto", "Gino", "Livio", "Nevio", "Tullio"],
        stems: &["Arb", "Belv", "Corv", "Dald", "Fiorb", "Grim", "Lav", "Mand", "Pelv", "Sard", "Trev"],
        endings: &["acchi", "agnolo", "arelli", "esan", "igo", "iselli", "orano", "uzzi"],
    },
    Nation {
        nationality: "German",
        given: &["Arndt", "Benno", "Detlef", "Egon", "Falk", "Götz", "Jörn", "Lüder", "Ottmar", "Volker"],
        stems: &["Alten", "Birken", "Dorn", "Eich", "Grün", "Hasel", "Königs", "Lauter", "Mühl", "Silber", "Wolken"],
        endings: &["acker", "bauer", "brück", "feldt", "hofer", "kamp", "siek", "thal"],
    },
    Nation {
        nationality: "French",
        given: &["Aurèle", "Bastien", "Cédric", "Émile", "Florent", "Gaspard", "Loïc", "Noël", "Rémi", "Thibault"],
        stems: &["Aub", "Bres", "Chant", "Dess", "Fauv", "Garr", "Lans", "Mourn", "Perr", "Roqu", "Vauc"],
        endings: &["agny", "ecourt", "elin", "esson", "eval", "ières", "oncel", "ouze"],
    },
    Nation {
        nationality: "Brazilian",
        given: &["Adauto", "Caetano", "Dárcio", "Everaldo", "Iraci", "João", "Leôncio", "Nivaldo", "Otávio", "Zéu"],
        stems: &["Alv", "Bitt", "Carv", "Guim", "Jard", "Lac", "Mend", "Nobr", "Quint", "Sarm", "Vilh"],
        endings: &["anil", "arães", "eirós", "elha", "ento", "inho", "onça", "urão"],
    },
    Nation {
        nationality: "American",
        given: &["Buck", "Chester", "Dwight", "Earl", "Floyd", "Hank", "Lamar", "Merle", "Roscoe", "Wade"],
        stems: &["Barl", "Crock", "Dall", "Fenn", "Gant", "Hollo", "Kell", "Lomb", "Prude", "Sutt", "Tull"],
        endings: &["away", "bert", "ersby", "field", "man", "ock", "ridge", "ston"],
    },
    Nation {
        nationality: "Finnish",
        given: &["Aarne", "Eero", "Hannu", "Ilmo", "Jyrki", "Kalervo", "Osmo", "Päivö", "Tapio", "Väinö"],
        stems: &["Aalto", "Hieta", "Joki", "Kallio", "Lehti", "Mänty", "Nieme", "Pelto", "Ranta", "Särki", "Vuori"],
        endings: &["järvi", "koski", "la", "lahti", "maa", "nen", "niitty", "salo"],
    },
    Nation {
        nationality: "Spanish",
        given: &["Anselmo", "Benito", "Cirilo", "Eloy", "Fermín", "Gaspar", "Íñigo", "Lázaro", "Octavio", "Ulises"],
        stems: &["Alc", "Barr", "Cerv", "Escal", "Fuent", "Grand", "Ib", "Lum", "Monteb", "Pedr", "Val"],
        endings: &["añeda", "ante", "areña", "azo", "edilla", "erón", "iña", "osán"],
    },
    Nation {
        nationality: "Japanese",
        given: &["Daiki", "Eiji", "Genta", "Hayato", "Junpei", "Kaito", "Masaru", "Naoki", "Ryota", "Tetsu"],
        stems: &["Aki", "Fuka", "Hoshi", "Iwa", "Kuro", "Mizu", "Naga", "Shira", "Taka", "Umi", "Yoshi"],
        endings: &["bara", "gome", "hata", "kubo", "mine", "naka", "sawa", "zuru"],
    },
    Nation {
        nationality: "Australian",
        given: &["Angus", "Bruce", "Clive", "Digby", "Errol", "Keith", "Lachie", "Ned", "Rex", "Vaughan"],
        stems: &["Bool", "Coor", "Dubb", "Gool", "Kunder", "Marra", "Narra", "Tallan", "Wagga", "Yarra"],
        endings: &["bah", "dale", "gong", "grove", "man", "more", "ton", "worth"],
    },
    Nation {
        nationality: "Dutch",
        given: &["Arjen", "Bas", "Coen", "Daan", "Freek", "Gijs", "Joost", "Koen", "Sjoerd", "Wout"],
        stems: &[
            "van der Broek",
            "de Wael",
            "Hoogen",
            "Kuyper",
            "Linden",
            "Oude",
            "Poel",
            "Roose",
            "Steen",
            "Ten Have",
        ],
        endings: &["berg", "daal", "dijk", "hout", "kerk", "sluis", "veen", "zand"],
    },
    Nation {
        nationality: "Argentine",
        given: &[
            "Aníbal",
            "Belisario",
            "Ciro",
            "Delfín",
            "Evaristo",
            "Gregorio",
            "Hilario",
            "Nicanor",
            "Próspero",
            "Severo",
        ],
        stems: &["Alb", "Bast", "Cand", "Echev", "Ferr", "Gald", "Irig", "Laf", "Mold", "Urq", "Zub"],
        endings: &["aboitía", "anegra", "areda", "enoza", "erría", "iaga", "oyén", "uría"],
    },
];

/// Names that test what a reader takes for granted about ids: `-`, capitals, several words.
pub(super) const ODD_DRIVERS: &[(&str, &str, &str, &str)] = &[
    ("hart-marlow", "Piers", "Hart-Marlow", "British"),
    ("della_Corva", "Nino", "della Corva", "Italian"),
    ("oreilly-dunne", "Fergus", "O'Reilly-Dunne", "Irish"),
    ("Tomsen", "Bo", "Tømsen", "Danish"),
    ("ka_9", "Ka", "Nueve", "Mexican"),
];

pub(super) const TEAM_FIRST: &[&str] = &[
    "Alderney",
    "Borealis",
    "Castellan",
    "Drava",
    "Estrella",
    "Falkner",
    "Granta",
    "Halcyon",
    "Iberis",
    "Juniper",
    "Kestrel",
    "Lindqvist",
    "Meridian",
    "Northgate",
    "Orsova",
    "Palatin",
    "Quillon",
    "Rhenania",
    "Sabrina",
    "Tarvos",
    "Umbra",
    "Velox",
    "Westray",
    "Xanthos",
    "Ypsilon",
    "Zephyros",
];

pub(super) const TEAM_LAST: &[&str] =
    &["", "Racing", "Corse", "Motors", "Grand Prix", "Engineering", "Rennstall", "Équipe"];

/// Countries with a place each where circuits are, and whereabouts: name, locality stem, latitude, longitude.
pub(super) const COUNTRIES: &[(&str, &str, f64, f64)] = &[
    ("UK", "Withermoor", 52.3, -1.2),
    ("Italy", "Valmarina", 45.1, 10.4),
    ("Germany", "Karstheim", 50.2, 7.6),
    ("France", "Saint-Aubrac", 46.4, 3.1),
    ("Brazil", "São Beltrão", -22.8, -46.3),
    ("USA", "Lindenpark", 39.6, -86.1),
    ("Finland", "Vuorijärvi", 61.9, 25.2),
    ("Spain", "Peñalba", 40.7, -3.3),
    ("Japan", "Hoshimine", 35.2, 137.1),
    ("Australia", "Marragong", -36.9, 145.2),
    ("Netherlands", "Steenveen", 52.4, 5.1),
    ("Argentina", "Laguna Severa", -34.2, -59.1),
    ("Belgium", "Ardensart", 50.3, 5.8),
    ("Austria", "Hochalmsee", 47.2, 14.6),
    ("Canada", "Lac-aux-Cygnes", 45.7, -73.3),
    ("Mexico", "Tlalpango", 19.5, -99.2),
    ("South Africa", "Kudufontein", -26.1, 28.2),
    ("Portugal", "Monte Olivo", 38.8, -9.2),
    ("Hungary", "Fehérdomb", 47.4, 19.1),
    ("Sweden", "Granfors", 57.3, 13.7),
    ("Switzerland", "Bärenthal", 46.9, 7.5),
    ("Morocco", "Aïn Zarka", 33.4, -7.8),
    ("Malaysia", "Bukit Lumut", 2.9, 101.6),
    ("Turkey", "Karaçamlık", 40.9, 29.3),
    ("UAE", "Qasr al Rimal", 24.4, 54.5),
    ("Qatar", "Umm Sidr", 25.4, 51.4),
];

pub(super) const CIRCUIT_KINDS: &[&str] =
    &["Ring", "Park Circuit", "International Circuit", "Street Circuit", "Autodrome", "Speedway"];
