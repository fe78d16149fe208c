// Stands where @keyv/sqlite would load a native module that this project does not use.
export default undefined;
